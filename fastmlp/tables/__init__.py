"""Tables as samples: columns of numbers and of categories, kept in a model's file."""
