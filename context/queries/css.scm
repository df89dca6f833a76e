(rule_set (selectors [
  (class_selector (class_name (identifier) @name))
  (pseudo_class_selector (class_selector (class_name (identifier) @name)))
  (id_selector (id_name) @name)]) (block) @body) @definition.rule
(keyframes_statement (keyframes_name) @name (keyframe_block_list) @body) @definition.rule
((declaration (property_name) @name) @definition.property (#match? @name "^--"))

(import_statement) @import
