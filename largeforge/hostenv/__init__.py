"""Python environments on hosts: what each role needs, bundles of wheels to take there, the file that builds there."""
