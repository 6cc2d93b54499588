import random as _random
import uuid as _uuid

_random.seed(20240229)
_SAMPLE = _random.sample(range(100), 5)
_OWN = _random.Random(7).random()
_NAME = _uuid.uuid4().hex
