"""What only learned codecs need: the models, their quantization and speed, their real bits."""
