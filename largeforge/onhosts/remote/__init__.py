"""The program that runs on hosts of trainings; standard library only."""
