"""Downstream utility: do synthetic volumes improve a model that is then used on real people?"""
