"""The results of a sweep as one HTML page that needs no network.

Python gathers and rounds, Jinja lays out and escapes, and the scripts in ``assets/`` draw and
react. What they draw travels in the page as one JSON object; see :mod:`.page`.
"""
