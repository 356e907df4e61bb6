"""Chat and model-list traffic for plain Locust; the run folder is written as `tensorix load` does.

    locust -f loadtests/locustfile.py --headless --users 5 --spawn-rate 1 --run-time 60s --host https://api.tensorix.ai/v1

Of 20 users 19 chat and one lists the models.
"""

from tensorix_loadtests import ChatUser, ModelListUser


class Chat(ChatUser):
    """A reader: asks, reads the stream, asks again."""

    weight = 19


class ModelList(ModelListUser):
    """Lists the models once a second."""

    weight = 1
