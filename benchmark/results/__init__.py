"""Result folders: records, their index, progress, and merging of folders."""
