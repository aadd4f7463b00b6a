"""The chassis: how any service of the mesh is configured, served, found, observed and tested.

No business decision lives here, and a module enters when two services use it.
"""
