"""The steps of a job: what each needs, what its result depends on, and how it is run. Knows no queue and no web."""
