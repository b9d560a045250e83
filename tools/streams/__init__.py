"""Streams of one camera: what encode.py, decode.py and detect.py do with them."""
