"""Downstream utility: do synthetic volumes help a model that is then used on real people?"""
