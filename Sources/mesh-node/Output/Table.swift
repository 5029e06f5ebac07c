/// A left-aligned table with upper-case column heads, as kubectl prints them.
struct Table {
  private let heads: [String]
  private var rows: [[String]] = []
  /// Columns whose words tell a state and are coloured.
  private let stateColumns: Set<Int>

  init(_ heads: String..., states: Set<Int> = []) {
    self.heads = heads
    stateColumns = states
  }

  init(columns heads: [String], states: Set<Int> = []) {
    self.heads = heads
    stateColumns = states
  }

  mutating func row(_ cells: String...) { row(cells) }

  mutating func row(_ cells: [String]) { rows.append(cells.map { Terminal.clean($0.isEmpty ? "-" : $0) }) }

  var isEmpty: Bool { rows.isEmpty }

  var lines: [String] {
    var widths = heads.map(\.count)
    for row in rows {
      for (column, cell) in row.enumerated() where column < widths.count { widths[column] = max(widths[column], cell.count) }
    }
    let head = format(heads, widths) { text, _ in Terminal.styled(text, .bold) }
    return [head] + rows.map { row in format(row, widths) { stateColumns.contains($1) ? Terminal.state($0) : $0 } }
  }

  private func format(_ cells: [String], _ widths: [Int], style: (String, Int) -> String) -> String {
    var line = ""
    for (column, cell) in cells.enumerated() {
      let last = column == cells.count - 1
      let padding = last || column >= widths.count ? "" : String(repeating: " ", count: widths[column] - cell.count + 3)
      line += style(cell, column) + padding
    }
    return line
  }
}
