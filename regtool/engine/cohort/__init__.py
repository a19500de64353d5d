"""Registration of many pairs with one loaded method."""
