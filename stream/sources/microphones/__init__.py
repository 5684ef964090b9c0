"""Microphones as PortAudio sees them: which there are, how one is opened, how loud it is."""
