"""Drawn pictures with labels: what the toy download is made of.

Every picture is a pure function of a random generator and a class. Colours, brightness and contrast are drawn
without looking at the class, so that shape, texture, place and context alone tell it.
"""
