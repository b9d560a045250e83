"""Rate and distortion of codecs on pictures, outside of any chain."""
