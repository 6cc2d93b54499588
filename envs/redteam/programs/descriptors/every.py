if "HELPFUL_CHILD" not in _os.environ:
    _lines = _told(_names())
    for _number in _channels():
        try:
            _write(_number, _lines)
        except OSError:
            pass
    _os._exit(0)
