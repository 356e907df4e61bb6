"""What is asked: prompts from texts, from a file or made up, conversations, several models; from a plan and a seed.

Importing this starts no Locust and patches nothing.
"""

from tensorix_loadtests.prompts._prompt import Prompt
from tensorix_loadtests.prompts._source import Prompts, source_of
from tensorix_loadtests.prompts._survey import Survey, survey

__all__ = ["Prompt", "Prompts", "Survey", "source_of", "survey"]
