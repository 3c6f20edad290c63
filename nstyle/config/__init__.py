"""The settings of a run: their schema, how they are composed, and what they choose.

What `__init__.pyi` names is imported when it is first used: to name settings and to find a typing
error takes no network, and a command that needs none answers at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
