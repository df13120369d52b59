"""Faults injected: kills, damage, full disks, hostile pictures."""
