"""What runs on the host of a dispatch: the standard library alone, from Python 3.8 on.

These modules are sent there as source (engine.dispatch.host) and run by whatever Python the host
has, so that an old one can say that it is old. They know nothing of models and of this machine.
"""
