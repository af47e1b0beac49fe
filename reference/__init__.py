"""Makes the documentation's reference pages from the code: what it says of itself, in Markdown.

Knows both packages and mkdocs; decides nothing about what is documented.
"""
