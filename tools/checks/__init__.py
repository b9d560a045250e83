"""Checks of files: are they exact on any machine, and does any damage go unnoticed?"""
