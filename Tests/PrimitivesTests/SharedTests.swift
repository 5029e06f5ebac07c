import Primitives
import Testing

struct SharedTests {
  @Test func `a copy shares the value until one of the two changes`() {
    var first = Shared([1, 2])
    let second = first
    #expect(first == second && first.hashValue == second.hashValue && MemoryLayout<Shared<[Int]>>.size == 8)
    first.value.append(3)
    #expect(first.value == [1, 2, 3] && second.value == [1, 2] && first != second)
    #expect(Shared([1, 2]) == second)
  }
}
