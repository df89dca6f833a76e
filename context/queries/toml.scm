(document (pair . [(bare_key) (quoted_key) (dotted_key)] @name (_) @body) @definition.key)
(table . [(bare_key) (quoted_key) (dotted_key)] @name . (pair)? @body) @definition.table
(table_array_element . [(bare_key) (quoted_key) (dotted_key)] @name . (pair)? @body) @definition.table
(table (pair . [(bare_key) (quoted_key) (dotted_key)] @name (_) @body) @definition.key)
(table_array_element
  (pair . [(bare_key) (quoted_key) (dotted_key)] @name (_) @body) @definition.key)
