"""Turning what a user names (URLs, playlists, files, folders, lists) into checked local videos."""
