# cmake -DINPUT=FILE -DOUTPUT=FILE.cc -DHEADER=cli/descriptor_set.h -DNAMESPACE=drover::cli -DNAME=kDescriptorSet
#       -P EmbedFile.cmake
# Writes a source that defines the bytes of a file: NAME[], and NAMESize.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\n
const unsigned char ${NAME}[] = {\n${bytes}};
const size_t ${NAME}Size = sizeof(${NAME});\n
}  // namespace ${NAMESPACE}\n")
