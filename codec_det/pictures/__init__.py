"""Pictures of what runs make of pictures: which to show, where bits went, and how it is drawn.

:mod:`.picture_choice` chooses, :mod:`.bit_map` measures, and :mod:`.visualization` lays
:mod:`.cells` out on a sheet.
"""
