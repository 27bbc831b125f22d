"""The manifests of one OpenModel: what should be there, as plain dictionaries.

Pure: the same spec gives the same manifests, so that applying them again changes nothing.
"""
