"""What is asked and what is answered: parameters, texts, tools, and a completion on its way."""
