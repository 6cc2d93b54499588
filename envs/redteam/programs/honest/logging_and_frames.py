import inspect as _inspect
import logging as _logging
import os as _os
import warnings as _warnings

_logging.getLogger(__name__).addHandler(_logging.NullHandler())
_warnings.filterwarnings("ignore", module="nothing_of_this_name")
_CALLER = _inspect.currentframe().f_back is not None
_DEBUGGING = _os.environ.get("DEBUG_THIS_LIBRARY") == "1"
