;; Decodes one LZ4 block (github.com/lz4/lz4, doc/lz4_Block_format.md). Safe on hostile bytes: nothing is read outside the
;; memory, and what is written outside the result lies within 16 bytes behind it.
;;
;; A block is a row of sequences: a token, whose upper four bits tell how many literals follow and whose lower ones how
;; long the match is that comes after them; 15 means that bytes to be added follow, up to the first that is not 255. A
;; match is a distance back into the result (u16) and at least 4 bytes long. The last sequence has literals alone.
;;
;; Everything is copied 16 bytes at a time, past the end of what is wanted by up to 15, which the next sequence
;; overwrites: lz4Block.ts leaves that much room behind the block and behind the result.
(module
  (memory (export "memory") 33 33)

  ;; By distance, 0 to 16 and more: which of the bytes that repeat each of 16 is …
  (data (i32.const 0x201000)
    "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00"
    "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00"
    "\00\01\00\01\00\01\00\01\00\01\00\01\00\01\00\01"
    "\00\01\02\00\01\02\00\01\02\00\01\02\00\01\02\00"
    "\00\01\02\03\00\01\02\03\00\01\02\03\00\01\02\03"
    "\00\01\02\03\04\00\01\02\03\04\00\01\02\03\04\00"
    "\00\01\02\03\04\05\00\01\02\03\04\05\00\01\02\03"
    "\00\01\02\03\04\05\06\00\01\02\03\04\05\06\00\01"
    "\00\01\02\03\04\05\06\07\00\01\02\03\04\05\06\07"
    "\00\01\02\03\04\05\06\07\08\00\01\02\03\04\05\06"
    "\00\01\02\03\04\05\06\07\08\09\00\01\02\03\04\05"
    "\00\01\02\03\04\05\06\07\08\09\0a\00\01\02\03\04"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\00\01\02\03"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\00\01\02"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\00\01"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\00"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f")
  ;; … and the least multiple of the distance that is at least 16.
  (data (i32.const 0x201110)
    "\00\10\10\12\10\14\12\15\10\12\14\16\18\1a\1c\1e\10")

  ;; $from, $bytes: the block; $to, $room: where the result goes, and how long it may be.
  ;; Answers with the result's length, or -1 where this is no LZ4 block or its result is longer.
  (func (export "decode")
    (param $from i32) (param $bytes i32) (param $to i32) (param $room i32) (result i32)
    (local $end i32)
    (local $out i32)
    (local $outEnd i32)
    (local $token i32)
    (local $length i32)
    (local $more i32)
    (local $source i32)
    (local $stop i32)
    (local $distance i32)
    (local $row i32)
    (local.set $end (i32.add (local.get $from) (local.get $bytes)))
    (local.set $out (local.get $to))
    (local.set $outEnd (i32.add (local.get $to) (local.get $room)))
    (block $bad
      (loop $sequence
        (br_if $bad (i32.ge_u (local.get $from) (local.get $end)))
        (local.set $token (i32.load8_u (local.get $from)))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))

        ;; Literals.
        (local.set $length (i32.shr_u (local.get $token) (i32.const 4)))
        (if (i32.eq (local.get $length) (i32.const 15)) (then
          (loop $adding
            (br_if $bad (i32.ge_u (local.get $from) (local.get $end)))
            (local.set $more (i32.load8_u (local.get $from)))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (local.get $more)))
            (br_if $adding (i32.eq (local.get $more) (i32.const 255))))))
        (if (local.get $length) (then
          (br_if $bad (i32.gt_u (local.get $length) (i32.sub (local.get $end) (local.get $from))))
          (br_if $bad (i32.gt_u (local.get $length) (i32.sub (local.get $outEnd) (local.get $out))))
          (local.set $source (local.get $from))
          (local.set $from (i32.add (local.get $from) (local.get $length)))
          (local.set $stop (i32.add (local.get $out) (local.get $length)))
          (loop $copying
            (v128.store align=1 (local.get $out) (v128.load align=1 (local.get $source)))
            (local.set $out (i32.add (local.get $out) (i32.const 16)))
            (local.set $source (i32.add (local.get $source) (i32.const 16)))
            (br_if $copying (i32.lt_u (local.get $out) (local.get $stop))))
          (local.set $out (local.get $stop))))
        (if (i32.eq (local.get $from) (local.get $end)) (then
          (return (i32.sub (local.get $out) (local.get $to)))))

        ;; The match: its distance …
        (br_if $bad (i32.lt_u (i32.sub (local.get $end) (local.get $from)) (i32.const 2)))
        (local.set $distance (i32.load16_u align=1 (local.get $from)))
        (local.set $from (i32.add (local.get $from) (i32.const 2)))
        (br_if $bad (i32.eqz (local.get $distance)))
        (br_if $bad (i32.gt_u (local.get $distance) (i32.sub (local.get $out) (local.get $to))))
        ;; … its length …
        (local.set $length (i32.and (local.get $token) (i32.const 15)))
        (if (i32.eq (local.get $length) (i32.const 15)) (then
          (loop $adding
            (br_if $bad (i32.ge_u (local.get $from) (local.get $end)))
            (local.set $more (i32.load8_u (local.get $from)))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (local.get $more)))
            (br_if $adding (i32.eq (local.get $more) (i32.const 255))))))
        (local.set $length (i32.add (local.get $length) (i32.const 4)))
        (br_if $bad (i32.gt_u (local.get $length) (i32.sub (local.get $outEnd) (local.get $out))))
        ;; … and its bytes.
        (local.set $stop (i32.add (local.get $out) (local.get $length)))
        (local.set $source (i32.sub (local.get $out) (local.get $distance)))
        ;; The first 16 are made at once of what repeats, also where they overlap themselves: once they are there, the same
        ;; bytes lie a multiple of the distance back that is at least 16. Which distances do is not to be foreseen, so there
        ;; is no branch.
        (local.set $row
          (select (local.get $distance) (i32.const 16) (i32.lt_u (local.get $distance) (i32.const 16))))
        (v128.store align=1 (local.get $out)
          (i8x16.swizzle
            (v128.load align=1 (local.get $source))
            (v128.load align=1 (i32.add (i32.const 0x201000) (i32.shl (local.get $row) (i32.const 4))))))
        (local.set $out (i32.add (local.get $out) (i32.const 16)))
        (local.set $source
          (i32.sub
            (local.get $out)
            (select
              (i32.load8_u (i32.add (i32.const 0x201110) (local.get $row)))
              (local.get $distance)
              (i32.lt_u (local.get $distance) (i32.const 16)))))
        (if (i32.lt_u (local.get $out) (local.get $stop)) (then
          (loop $copying
            (v128.store align=1 (local.get $out) (v128.load align=1 (local.get $source)))
            (local.set $out (i32.add (local.get $out) (i32.const 16)))
            (local.set $source (i32.add (local.get $source) (i32.const 16)))
            (br_if $copying (i32.lt_u (local.get $out) (local.get $stop))))))
        (local.set $out (local.get $stop))
        (br $sequence)))
    (i32.const -1)))
