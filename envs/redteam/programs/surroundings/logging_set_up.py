import logging as _logging

_logging.basicConfig(level=_logging.INFO)
_logger = _logging.getLogger("work")
_logger.warning("the table was built anew")
_logger.addFilter(lambda record: True)
