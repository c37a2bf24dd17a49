"""How long a project takes to reach the scheduler, against copying and hashing it by hand."""
