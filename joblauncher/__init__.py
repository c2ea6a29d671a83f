"""What runs on the compute node: claims an attempt, verifies the job folder, runs the process, writes what became
of it.

Python 3.9, standard library and dill alone; travels as ``joblauncher.pyz``.
"""
