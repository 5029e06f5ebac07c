import FoundationEssentials

enum OutputFormat: String, Sendable { case table, json, yaml }

/// Prints one value as a table, as JSON or as YAML.
func show<Value: Encodable>(_ value: Value, as format: OutputFormat, table: (Value) -> [String]) throws {
  switch format {
  case .table: for line in table(value) { Terminal.line(line) }
  case .json: Terminal.line(try json(value))
  case .yaml: Terminal.write(try yaml(value))
  }
}

func json(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  return String(decoding: try encoder.encode(value), as: UTF8.self)
}
