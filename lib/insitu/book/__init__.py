"""A chapter of the book: parameters, figures, results, and whether its page is fresh."""
