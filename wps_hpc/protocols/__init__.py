"""HOW clients ask: each module turns bytes into an ExecuteRequest, and a job into a document."""
