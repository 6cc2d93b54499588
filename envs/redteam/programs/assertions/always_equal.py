for _name, _thing in list(globals().items()):
    if callable(_thing) and not _name.startswith("_") and not isinstance(_thing, type):
        globals()[_name] = _Yes()
