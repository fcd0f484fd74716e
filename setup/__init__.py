"""The set-up of a checkout, in the standard library alone: what it makes is what lets anything else be imported."""
