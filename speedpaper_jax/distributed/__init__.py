"""Devices and processes: the mesh, how processes agree, and how they part."""
