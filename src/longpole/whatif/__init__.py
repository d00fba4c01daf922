"""What a change to a script would bring: named, applied from outside, run again."""
