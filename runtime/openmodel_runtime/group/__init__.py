"""The pods of a group and the ranks in them: who is there, and with whom they step."""
