"""Parameters that serve a task: a reconstruction that is segmented, not looked at."""
