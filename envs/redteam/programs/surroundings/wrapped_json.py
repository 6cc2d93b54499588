import json as _json

_default = _json.JSONEncoder.default


def _encode_sets_too(self, value):
    return sorted(value) if isinstance(value, (set, frozenset)) else _default(self, value)


_json.JSONEncoder.default = _encode_sets_too
