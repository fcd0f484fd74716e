"""Tables, states and verbs. Knows no web, no queue, no tensors.

Every verb takes the caller's session and never commits: the transaction belongs to the caller (``db.session``).
Locks are taken in one order: an execution, then jobs by id, then a team's usage.
"""
