"""Votes on categories: the table of votes, one file a method, and the streams of the methods."""
