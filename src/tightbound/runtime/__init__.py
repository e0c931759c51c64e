"""Errors, files, devices, processes, memory and progress; nothing about VAEs."""
