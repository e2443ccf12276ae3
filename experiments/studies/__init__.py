"""Tables and figures of documents, each made by a command."""
