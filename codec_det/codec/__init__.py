"""Image codecs behind one interface: RGB pictures in, reconstructions and bits per picture out.

:mod:`.table` says which there are, :mod:`.base` what a codec is.
"""
