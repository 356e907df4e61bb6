"""What every report is shown with: tables in words, pictures, the page and the Markdown made of them, their place."""
