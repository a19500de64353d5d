"""The verbs: register, refine, apply, jacobian, evaluate, cohort, rerun, train.

No argument parsing, no printing.
"""
