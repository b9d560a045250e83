"""Files of pictures: what encode.py does with them."""
